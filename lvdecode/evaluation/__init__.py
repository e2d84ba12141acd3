"""The numbers of a trained model, each with its unit and denominator."""
