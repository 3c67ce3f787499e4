"""What the operator learns: breaches become incidents, incidents become alerts, and a day has a verdict."""
