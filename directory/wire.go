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
// pieces, one element each: a message is the concatenation of its fields.
func encode(user *User) []byte {
	message, err := proto.Marshal(&apipb.User{Name: user.Name, Age: user.Age, Email: user.Email})
	if err != nil {
		// Only a string that is not UTF-8 can fail, and a Store holds none.
		panic(fmt.Sprintf("encode user %d: %v", user.ID, err))
	}
	element := protowire.AppendTag(make([]byte, 0, len(message)+4), replyData, protowire.BytesType)
	return protowire.AppendBytes(element, message)
}
