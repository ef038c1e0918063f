"""`pneumofed evaluate`: a model judged on labelled patients."""
