"""Transfer to mammograms: training on the body of another classifier, and whether that helps."""
