"""Building suites: where data comes from, how experts are trained, what is written."""
