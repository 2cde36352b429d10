"""What every training loop needs, whatever it trains."""
