"""The web page: server-made HTML that works without a script, and a little JavaScript that keeps it up to date.

Pages are tables of ``frame.Page`` in one module each, templates are ``page_*.html`` (whole) and ``comp_*.html`` (a part
that is also fetched alone). Nothing comes from outside, and nothing is built: what stands in ``static`` is what is served.
"""
