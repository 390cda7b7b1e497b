"""Pages: each module has the views of one page, and imports no other page."""
