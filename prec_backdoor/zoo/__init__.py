"""A sealed zoo: clean and attacked models without a word on which is which, and how good anybody's detector is on them."""
