"""What ``chainlake doctor`` looks at: each check says what it found, how bad that is, and what to do next."""
