"""Training pairs from the user's own pictures: an identity a folder, photographs and videos."""
