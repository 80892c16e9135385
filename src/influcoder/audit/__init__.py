"""Follows a chain of folders by its hashes, from decoder to proof, and says what can be concluded from it."""
