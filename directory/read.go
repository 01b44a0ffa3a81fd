package directory

import "context"

// List is Store.List.
func (d *Directory) List(ctx context.Context, query Query) (Page, error) {
	if err := d.Status().Err; err != nil {
		return Page{}, err // it would only wait
	}
	return d.store.List(ctx, query)
}

// Export is Store.Export.
func (d *Directory) Export(ctx context.Context, filter Filter, each func(State, []Record) error) (State, error) {
	if err := d.Status().Err; err != nil {
		return State{}, err
	}
	return d.store.Export(ctx, filter, each)
}

// Changes is Store.Changes.
func (d *Directory) Changes(ctx context.Context, from Cursor, limit int) ([]Change, State, error) {
	if err := d.Status().Err; err != nil {
		return nil, State{}, err
	}
	return d.store.Changes(ctx, from, limit)
}
