"""From token scores to sentences, turns and transcripts; thresholds, calibration and fusion."""
