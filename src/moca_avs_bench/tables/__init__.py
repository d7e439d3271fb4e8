"""The paper's ten tables and its figures, measured beside reported."""
