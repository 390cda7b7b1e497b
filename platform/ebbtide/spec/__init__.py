"""What the user asked for: the pydantic models by theme, and the rules between fields."""
