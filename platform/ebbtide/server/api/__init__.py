"""The HTTP API of ``ebbtide serve``, and the backend that the API and the web page share."""
