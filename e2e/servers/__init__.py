"""Servers that the cases deploy: load servers, a stand-in for GPU metrics, and a real model. `images.py` builds them."""
