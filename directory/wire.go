package directory

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"example.com/roster/gen/go/apipb"
)

// replyData is the number of UserReply.data in the frozen contract.
const replyData = 2

// encode returns user as one element of UserReply.data. The field may stand in
// pieces, one element each: a message is the concatenation of its fields. It
// fails for a string that is not UTF-8, which no Store lets in, but a hand with
// another program might.
func encode(user *User) ([]byte, error) {
	message, err := proto.Marshal(&apipb.User{Name: user.Name, Age: user.Age, Email: user.Email})
	if err != nil {
		return nil, fmt.Errorf("encode user %d: %w", user.ID, err)
	}
	element := protowire.AppendTag(make([]byte, 0, len(message)+4), replyData, protowire.BytesType)
	return protowire.AppendBytes(element, message), nil
}
