"""Encoders: what they read, how they are distilled, how they are saved."""
