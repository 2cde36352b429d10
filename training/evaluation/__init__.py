"""Evidence: metrics, baselines, the paper's protocol and its studies. What is measured is what ships: models/ runs, nothing is copied."""
