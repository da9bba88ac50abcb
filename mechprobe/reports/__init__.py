"""The self-contained HTML report of a run: reads tables and JSON, writes one page."""
