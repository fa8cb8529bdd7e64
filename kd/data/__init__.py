"""Where rows come from, how they are split, and the digests that name them."""
