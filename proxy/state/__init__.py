"""What is known beyond one request: small interfaces, and siblings of the same shape behind them."""
