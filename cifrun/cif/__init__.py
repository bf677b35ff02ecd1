"""The density: a model of steps, the index that makes a flow continuously indexed, and the estimators."""
