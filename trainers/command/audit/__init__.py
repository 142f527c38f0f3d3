"""From the words of an audit to its job."""
