"""The examples as a person meets them: the real program, and pages in a real browser."""
