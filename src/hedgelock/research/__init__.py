"""Offline studies whose results go into policy; nothing that runs imports them."""
