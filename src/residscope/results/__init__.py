"""Results: values with named axes that give numbers and show themselves."""
