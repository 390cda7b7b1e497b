"""Web pages: HTML rendered on the server that works without JavaScript, plus a few scripts that update open pages.

Each module lists its pages in ``routes.PAGES``. Templates are ``page_*.html`` (whole pages) and ``comp_*.html`` (parts
that htmx also requests separately). Pages load nothing from other hosts, and there is no build step: files in ``static``
are served unchanged.
"""
