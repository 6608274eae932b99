"""What may come: probabilities. Floats live here, never in `domain`; no money is made of them."""
