"""How well a method agrees with its teacher, and with retraining."""
