"""Synthetic heads with exact ground truth."""
