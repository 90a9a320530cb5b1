package bus

// Rights are the subjects that a service's user at a NATS server may publish to and subscribe to: enough for everything
// that Conn and Remote do, and not more than NATS can tell apart. A service speaks in nobody else's name and hears nobody
// else's answers. What is kept can be removed by its keepers alone: trimming the events is the recorder's, dead letters are
// the replayer's. Every service may read every event: events hold ids and digests. The deliveries of a work subscription
// are those of its service alone: NATS cannot confine a service to consumers of its own, as broadcasts make them under
// names of chance, but it can keep it from those that are known.
type Rights struct{ Publish, Subscribe, Deny []string } // Deny is of Publish, and goes before it

// Role is what a service does at the bus besides its own events.
type Role int

// Roles.
const (
	RolePlain    Role = iota
	RoleRecorder      // trims the stream: the one that has seen every event
	RoleReplayer      // replays and discards dead letters
)

// Durable is the name at the hub of a service's work subscription.
func Durable(service, work string) string { return service + "_" + work }

// RightsOf lists what a service needs. others are the durable names of all work subscriptions that are not its own.
func RightsOf(service string, others []string, roles ...Role) Rights {
	const api = "$JS.API."
	lease := "$KV." + leaseBucket + "." + service
	r := Rights{
		Publish: []string{
			"aran." + service + ".>", subjectDead + ">",
			api + "INFO",
			api + "STREAM.INFO." + streamEvents, api + "STREAM.INFO." + streamDead, api + "STREAM.INFO.KV_" + leaseBucket,
			api + "STREAM.CREATE." + streamEvents, api + "STREAM.CREATE." + streamDead, api + "STREAM.CREATE.KV_" + leaseBucket,
			api + "CONSUMER.*." + streamEvents, api + "CONSUMER.*." + streamEvents + ".>", // information, lists, making and deleting
			api + "CONSUMER.DURABLE.CREATE." + streamEvents + ".>", api + "CONSUMER.MSG.NEXT." + streamEvents + ".>",
			api + "STREAM.MSG.GET." + streamDead, api + "DIRECT.GET." + streamDead, api + "DIRECT.GET." + streamDead + ".>",
			"$JS.ACK." + streamEvents + ".>", "$JS.FC." + streamEvents + ".>",
			lease, api + "STREAM.MSG.GET.KV_" + leaseBucket, api + "DIRECT.GET.KV_" + leaseBucket + "." + lease,
		},
		Subscribe: []string{inbox(service) + ".>"},
	}
	for _, d := range others {
		r.Deny = append(r.Deny, api+"CONSUMER.*."+streamEvents+"."+d, api+"CONSUMER.*."+streamEvents+"."+d+".>",
			api+"CONSUMER.DURABLE.CREATE."+streamEvents+"."+d, api+"CONSUMER.MSG.NEXT."+streamEvents+"."+d, "$JS.ACK."+streamEvents+"."+d+".>")
	}
	for _, role := range roles {
		switch role {
		case RoleRecorder:
			r.Publish = append(r.Publish, api+"STREAM.PURGE."+streamEvents, api+"STREAM.MSG.GET."+streamEvents)
		case RoleReplayer:
			r.Publish = append(r.Publish, subjectRetry+">", api+"STREAM.MSG.DELETE."+streamDead)
		case RolePlain:
		}
	}
	return r
}

// inbox begins the subjects of answers to a service: of its own, so that no other service hears them.
func inbox(service string) string { return "_INBOX_" + service }
