"""The cloud: trains models, rolls them out, takes the results in."""
