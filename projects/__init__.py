"""Tasks that live outside razorlite and use it through `custom_imports`."""
