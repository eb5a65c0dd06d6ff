"""The network's rules on real switches: network namespaces as hosts, Open vSwitch as switches, and an OpenFlow controller."""
