package storetest

var room = []scenario{
	{"where there is room nothing is left of looking for it", func(f *fixture) {
		id := f.submit("a", 1, 1)
		before := f.audit(id, 0)
		for range 3 {
			if err := f.CheckRoom(f.ctx); err != nil {
				f.Errorf("look for room: %v", err)
			}
		}
		if err := f.Check(f.ctx); err != nil {
			f.Errorf("check afterwards: %v", err)
		}
		f.equal("the job", f.audit(id, 0), before)
	}},
}
