"""Recorded prices and funding: reading, checking, completing and fetching them."""
