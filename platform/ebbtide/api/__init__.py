"""What serves Ebbtide over HTTP: one backend for API and page, a cache by watch, who may see what, and the paths."""
