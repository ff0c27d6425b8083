"""What is known beyond one request: small interfaces, and siblings of one shape behind them."""
