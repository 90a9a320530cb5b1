//go:build !faults

package fault

// Point marks a place between two durable writes. In the shipped binary it is nothing at all;
// built with the tag `faults` the process can be told to end here, as by kill -9.
func Point(string) {}

// InboxOff and OutboxOff take a safety net out, to prove that the kill test notices. They are
// constants in the shipped binary.
func InboxOff() bool { return false }

// OutboxOff is InboxOff for the outbox.
func OutboxOff() bool { return false }
