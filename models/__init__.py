"""What computes: pure torch where possible, and a narrow seam to ComfyUI."""
