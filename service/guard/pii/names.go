package pii

func (x *scanner) names() {}
