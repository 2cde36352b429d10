"""Pictures for people. All take and give IMAGE tensors, float32 `[B, H, W, 3]` in [0, 1], and never draw into their inputs."""
