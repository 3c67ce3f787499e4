"""What the person on duty is told: breaches become incidents, incidents become alerts, and a day has a verdict."""
