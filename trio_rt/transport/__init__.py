"""Engine.IO messages over the network."""
