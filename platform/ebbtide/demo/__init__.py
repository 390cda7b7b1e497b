"""A cluster to look at: made up, and true to Knative's arithmetic. Services under synthetic traffic, with hours behind them."""
