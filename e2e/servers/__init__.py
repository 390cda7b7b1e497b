"""What the cases deploy: servers of any load, a stand-in for GPU metrics, and a real model. `images.py` builds them."""
