"""Language models as subjects: loading, rendering transcripts into tokens, reading and editing activations."""
