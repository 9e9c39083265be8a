"""What tilseg does, one verb a module: each is a public function of the package."""
