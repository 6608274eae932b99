"""What is learnt from recorded markets, apart from what runs on them."""
