"""Detection on turns and transcripts, out of fold."""
