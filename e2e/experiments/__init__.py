"""Experiments on the cluster whose results are in the documents. The suite does not run or import them."""
