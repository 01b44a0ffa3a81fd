package service

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// writable are the fields of a User that a mask may name.
var writable = []struct {
	name  string
	field directory.Fields
}{{"name", directory.NameField}, {"age", directory.AgeField}, {"email", directory.EmailField}}

// maskedFields returns the fields that an update changes. What is wrong is told of fields with prefix
// before their names.
func maskedFields(request *rosterv1.UpdateUserRequest, prefix string) (fields directory.Fields, wrong []fieldViolation) {
	paths, user := request.GetUpdateMask().GetPaths(), request.GetUser()
	refuse := func(reason, format string, values ...any) {
		wrong = append(wrong, fieldViolation{prefix + "update_mask", reason, fmt.Sprintf(format, values...)})
	}
	if len(paths) == 0 {
		for name, set := range map[directory.Fields]bool{
			directory.NameField: user.GetName() != "", directory.AgeField: user.GetAge() != 0, directory.EmailField: user.GetEmail() != "",
		} {
			if set {
				fields |= name
			}
		}
		if fields == 0 {
			refuse("MASK_EMPTY", "names no field, and no field of the user is set: name those that change, such as name or email")
		}
		return fields, wrong
	}
	known := rosterv1.File_roster_v1_directory_proto.Messages().ByName("User").Fields()
	for _, path := range paths {
		i := slices.IndexFunc(writable, func(w struct {
			name  string
			field directory.Fields
		}) bool {
			return w.name == path
		})
		switch {
		case i >= 0:
			fields |= writable[i].field
		case path == "*" && len(paths) == 1:
			fields = directory.AllFields
		case path == "*":
			refuse("MASK_STAR", "has * beside other fields: * stands for all of them, so send it alone")
		case known.ByName(protoreflect.Name(path)) != nil:
			refuse("MASK_OUTPUT_ONLY", "%s cannot be changed: name, age and email can", path)
		default:
			refuse("MASK_UNKNOWN", "%s is no field of a user: name, age and email can be changed, and * is all three", quoted(path))
		}
		if len(wrong) > maxViolations {
			break
		}
	}
	return fields, wrong
}

// named reports whether fields has the field of this name.
func named(fields directory.Fields, name protoreflect.Name) bool {
	for _, w := range writable {
		if w.name == string(name) {
			return fields&w.field != 0
		}
	}
	return false
}

// withoutPrefix is the text of an error of directory without what makes it an ErrInvalid: it stands where
// it is plain that a user is meant.
func withoutPrefix(err error) string {
	return strings.TrimPrefix(err.Error(), directory.ErrInvalid.Error()+": ")
}
