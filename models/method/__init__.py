"""The paper's method, one file an idea."""
